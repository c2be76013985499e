"""The web page in Chromium."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import HERE
from tests.clients.roughy import KEY, Roughy
from tests.clients.scripts import run
from tests.hosts._process import free_port, running

SLOWLY = 2_500_000


pytestmark = pytest.mark.usefixtures("in_chromium")


def play(scenario: str, url: str, account: Roughy, *files: Path) -> dict[str, Any]:
    """Do what the scenario says and return what it tells."""
    command = ["node", str(HERE / "page.mjs"), scenario, f"{url}/", account.key, *map(str, files)]
    done = run(command, HERE)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    own = [line for line in told["logged"] if "Failed to load resource" not in line]
    assert own == []
    return told


def test_a_key_a_project_and_a_file_can_be_given_by_keyboard(account: Roughy, video: Path) -> None:
    told = play("keyboard", account.url, account, video)
    assert told["reached"] == ["add-project", "project-name", "add-project", "files"]
    assert told["outline"] == "solid"
    assert told["project"] == "By keyboard"
    account.check_same(account.only_asset(), video)


def test_an_upload_outlives_a_pause_and_a_reload(
    account: Roughy, video: Path, document: Path
) -> None:
    told = play("reload", account.url, account, video, document)
    assert re.fullmatch(r"[\d.]+ .B of [\d.]+ MB · [\d.]+ .B/s · \d s left", told["numbers"])
    assert (told["focus"], told["stands"]) == ("Resume", True)
    assert told["title"] == "clip.mp4"
    assert "This is another file: the upload was begun with clip.mp4" in told["other"][0]
    assert told["status"] == "clip.mp4: Ready"
    assert told["duration"] == pytest.approx(4, abs=0.1)
    assert told["width"] == 360
    check_resumed(told["offsets"])
    account.check_same(account.only_asset(), video)


def check_resumed(offsets: list[int]) -> None:
    """Each PATCH went on where the ones before it had come to; one started at 0."""
    assert offsets == sorted(offsets)
    assert offsets.count(0) == 1
    assert len(offsets) > 1


def test_the_page_takes_the_key_out_of_the_link(account: Roughy) -> None:
    told = play("link", account.url, account)
    assert told["link"] == f"{account.url}/"


def test_a_file_that_is_chosen_anew_goes_on_with_its_upload(account: Roughy, video: Path) -> None:
    told = play("again", account.url, account, video)
    assert told["cards"] == 1
    assert told["offsets"][0] > 0
    account.check_same(account.only_asset(), video)


def test_a_connection_that_is_cut_needs_nobody_to_press_anything(
    account: Roughy, video: Path
) -> None:
    # Slowly: a busy server may lose what came just before the cut, and here that could be all.
    cuts = [2_500_000, 1_000_000]
    with BadNetwork(account.port, cuts=cuts, bytes_per_second=SLOWLY) as network:
        told = play("cut", network.url, account, video)
    assert network.cuts_made == [2_500_000, 1_000_000]
    check_resumed(told["offsets"])
    account.check_same(account.only_asset(), video)


def test_an_upload_that_is_busy_for_now_is_asked_for_again(account: Roughy, video: Path) -> None:
    with BadNetwork(account.port, bytes_per_second=SLOWLY) as network:
        told = play("busy", network.url, account, video)
    assert (told["busy"], told["errors"]) == (False, [""])
    account.check_same(account.only_asset(), video)


def test_a_browser_that_was_offline_goes_on(account: Roughy, video: Path) -> None:
    with BadNetwork(account.port, cuts=[3_300_000], bytes_per_second=SLOWLY) as network:
        told = play("offline", network.url, account, video)
    assert told["state"] == "Connection lost, trying again"
    check_resumed(told["offsets"])
    account.check_same(account.only_asset(), video)


def test_a_refused_format_is_told_at_once_and_later(account: Roughy, document: Path) -> None:
    told = play("refused", account.url, account, document)
    asset = account.asset(account.only_asset()).json()
    reason = f"{asset['error_message']} (unsupported_media)."
    assert [text.lower() for text in told["errors"]] == [reason]
    assert told["later"] == told["errors"]
    # The 409 is not tried again.
    assert told["requests"] == ["HEAD", "PATCH"]


def test_a_dropped_file_can_be_cancelled(account: Roughy, video: Path) -> None:
    told = play("cancel", account.url, account, video)
    assert told["title"] == "clip.mp4"
    assert told["focus"] == "assets-title"
    assert told["status"] == "clip.mp4: cancelled"
    assert account.assets() == []


def test_a_wrong_key_is_told_and_not_kept(account: Roughy) -> None:
    told = play("wrongKey", account.url, account)
    assert told["error"] == "Roughy does not know this key."
    assert told["kept"] == 0


def test_the_key_is_kept_for_the_tab_or_if_wanted_for_the_browser(account: Roughy) -> None:
    told = play("remember", account.url, account)
    assert told["forTab"] is False
    assert told["forBrowser"] is True
    assert told["afterwards"] == 0


def test_an_account_without_credits_is_told_so(tmp_path: Path, video: Path) -> None:
    port = free_port()
    command = ["-m", "examples.roughy", "--port", str(port), "--data", str(tmp_path / "poor")]
    settings = {"ROUGHY_API_KEYS": KEY, "ROUGHY_INITIAL_CREDITS": "0"}
    with running("roughy", command, port, tmp_path / "poor", **settings), Roughy(port) as poor:
        told = play("poor", poor.url, poor, video)
        assert "credits" in told["error"]
        assert poor.assets() == []
