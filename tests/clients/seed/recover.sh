# How Roughy's guide finds an upload again whose URL was lost.
TOKEN="sk_…"
API="https://api.roughy.ai"
ASSET_ID="019de7f7-3a52-74d1-9eeb-323e0bfb7bb9"

curl -sf "$API/v1/assets/$ASSET_ID" \
  -H "Authorization: Bearer $TOKEN"
