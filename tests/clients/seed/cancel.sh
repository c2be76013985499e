# How Roughy's guide cancels an upload; the second call is as good as the first.
TOKEN="sk_…"
UPLOAD_URL="https://api.roughy.ai/v1/uploads/<upload_id>"

curl -X DELETE "$UPLOAD_URL" \
  -H "Authorization: Bearer $TOKEN" \
  -H "Tus-Resumable: 1.0.0"
curl -X DELETE "$UPLOAD_URL" \
  -H "Authorization: Bearer $TOKEN" \
  -H "Tus-Resumable: 1.0.0"
