"""Programs around Roughy: an uploader, a demo, a video to try it with, a network that breaks."""
