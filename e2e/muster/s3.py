"""S3 of the tests' own: moto's server, which keeps everything in memory."""

import sys

import requests

from .process import Process, clean_environment

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}


class S3:
    """One server with one bucket."""

    def __init__(self, folder, bucket="artifacts"):
        folder.mkdir(parents=True, exist_ok=True)
        self.bucket = bucket
        # Werkzeug prints the port that it was given for 0.
        command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        self.process = Process(command, folder / "s3.log", env=clean_environment(**CREDENTIALS))
        found = self.process.wait_for_line(r"Running on http://127\.0\.0\.1:(\d+)")
        self.url = f"http://127.0.0.1:{found.group(1)}"
        requests.put(f"{self.url}/{bucket}", timeout=30).raise_for_status()

    @property
    def environment(self):
        """For whoever is to use it."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def keys(self):
        """The keys of all objects."""
        listed = requests.get(f"{self.url}/{self.bucket}?list-type=2", timeout=30).text
        return [part.split("</Key>")[0] for part in listed.split("<Key>")[1:]]

    def uploads(self):
        """The uploads in parts that nobody has ended."""
        listed = requests.get(f"{self.url}/{self.bucket}?uploads", timeout=30).text
        return [part.split("</UploadId>")[0] for part in listed.split("<UploadId>")[1:]]

    def stop(self):
        self.process.stop()
