# The upload with curl as Roughy's guide prints it, with the `stat` of Linux.
TOKEN="sk_…"
API="https://api.roughy.ai"
PROJECT_ID="019de7f5-7e21-7402-92a8-1c0e1fa84411"
FILE="/path/to/video.mp4"
CHUNK_SIZE=$((64 * 1024 * 1024))   # 64 MiB

SIZE=$(stat -c%s "$FILE")

# 1. Create the asset — the asset is the body, the transfer URL is the
#    Location header. -D dumps the response headers so we can read it.
BODY=$(curl -sf -X POST "$API/v1/assets" \
  -D /tmp/roughy-headers.txt \
  -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -d "{\"project_id\":\"$PROJECT_ID\",\"size_bytes\":$SIZE}")

ASSET_ID=$(echo "$BODY" | jq -r '.id')
UPLOAD_URL=$(awk -F': ' 'tolower($1) == "location" { gsub(/\r/, "", $2); print $2 }' /tmp/roughy-headers.txt)

# 2. PATCH chunks to the pre-allocated TUS URL.
OFFSET=0
while [ $OFFSET -lt $SIZE ]; do
  REMAINING=$((SIZE - OFFSET))
  THIS=$((REMAINING < CHUNK_SIZE ? REMAINING : CHUNK_SIZE))
  tail -c +$((OFFSET + 1)) "$FILE" | head -c "$THIS" | \
    curl -sf -X PATCH "$UPLOAD_URL" \
      -H "Authorization: Bearer $TOKEN" \
      -H "Tus-Resumable: 1.0.0" \
      -H "Upload-Offset: $OFFSET" \
      -H "Content-Type: application/offset+octet-stream" \
      -H "Content-Length: $THIS" \
      --data-binary @-
  OFFSET=$((OFFSET + THIS))
done

echo "Uploaded $OFFSET / $SIZE bytes; asset_id=$ASSET_ID"
