"""Roughy on S3: what its environment says, and what is in its bucket."""

from tests.services.s3 import S3Server


def environment(server: S3Server, bucket: str, endpoint: str | None = None) -> dict[str, str]:
    return {
        "ROUGHY_STORE": f"s3://{bucket}/roughy",
        "AWS_ENDPOINT_URL": endpoint or server.endpoint,
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_REGION": server.region,
    }
