"""The web page in Chromium."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from examples.roughy.tools.bad_network import BadNetwork
from tests.clients.needs import HERE
from tests.clients.roughy import KEY, Roughy
from tests.clients.scripts import run
from tests.hosts._process import free_port, running

SLOWLY = 2_500_000


pytestmark = pytest.mark.usefixtures("in_chromium", "axe")


def play(scenario: str, url: str, account: Roughy, *files: Path) -> dict[str, Any]:
    """Do what the scenario says and return what it tells."""
    command = ["node", str(HERE / "page.mjs"), scenario, f"{url}/", account.key, *map(str, files)]
    done = run(command, HERE)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    own = [line for line in told["logged"] if "Failed to load resource" not in line]
    assert own == []
    assert told["barriers"] == []
    return told


def test_a_key_a_project_and_a_file_can_be_given_by_keyboard(account: Roughy, video: Path) -> None:
    told = play("keyboard", account.url, account, video)
    assert told["first"] == 0, "a form to fill in before anything was asked for"
    assert told["reached"] == ["project", "add-project", "project-name", "add-project", "files"]
    assert told["outline"] == "solid"
    assert (told["project"], told["heading"]) == ("By keyboard", "Assets in By keyboard")
    assert told["elsewhere"] == [0, "In By keyboard"], "an asset under another project's heading"
    account.check_same(account.only_asset(), video)


def test_an_upload_outlives_a_pause_and_a_reload(
    account: Roughy, video: Path, document: Path
) -> None:
    told = play("reload", account.url, account, video, document)
    assert re.fullmatch(r"[\d.]+ .B of [\d.]+ MB · [\d.]+ .B/s · \d s left", told["numbers"])
    assert (told["focus"], told["stands"]) == ("Resume", True)
    assert told["title"] == "clip.mp4"
    assert "This is another file: the upload was begun with clip.mp4" in told["other"][0]
    assert told["asked"] == ["beforeunload"], "running work is not lost without a question"
    assert told["status"] == "clip.mp4: Ready"
    assert told["players"] == 0, "a player that nobody has asked for"
    assert told["download"] == "clip.mp4"
    assert told["duration"] == pytest.approx(4, abs=0.1)
    assert told["width"] == 360
    check_resumed(told["offsets"])
    account.check_same(account.only_asset(), video)


def check_resumed(offsets: list[int]) -> None:
    """Each PATCH went on where the ones before it had come to; one started at 0."""
    assert offsets == sorted(offsets)
    assert offsets.count(0) == 1
    assert len(offsets) > 1


def test_a_file_that_is_chosen_anew_goes_on_with_its_upload(account: Roughy, video: Path) -> None:
    told = play("again", account.url, account, video)
    assert told["cards"] == 1
    assert told["offsets"][0] > 0
    account.check_same(account.only_asset(), video)


@pytest.mark.parametrize("has_npm", [True, False], ids=["tus-js-client", "without-npm"])
def test_a_connection_that_is_cut_needs_nobody_to_press_anything(
    account: Roughy, video: Path, monkeypatch: pytest.MonkeyPatch, has_npm: bool
) -> None:
    if not has_npm:
        monkeypatch.setenv("WITHOUT_NPM", "1")
    # Slowly: a busy server may lose what came just before the cut, and here that could be all.
    cuts = [2_500_000, 1_000_000]
    with BadNetwork(account.port, cuts=cuts, bytes_per_second=SLOWLY) as network:
        told = play("cut", network.url, account, video)
    assert network.cuts_made == [2_500_000, 1_000_000]
    assert told["client"] is not has_npm, "the page says with what it sends"
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
    assert told["errors"] == ["This is not audio or video of a kind that Roughy knows."]
    assert told["later"] == told["errors"]
    # The 409 is not tried again.
    assert told["requests"] == ["HEAD", "PATCH"]


def test_a_folder_is_uploaded_in_order_and_a_refused_file_stops_no_other(
    account: Roughy, tmp_path: Path, video: Path
) -> None:
    folder = tmp_path / "holiday"
    (folder / "10 more").mkdir(parents=True)
    for name in ("3.mp4", "9 gone.mp4", "10 more/clip.dat"):
        shutil.copy(video, folder / name)
    (folder / "1 notes.txt").write_text("not a film\n" * 10)
    (folder / "2 empty.mp4").touch()
    told = play("folder", account.url, account, folder, folder / "9 gone.mp4")
    assert told["titles"] == ["1 notes.txt", "2 empty.mp4", "3.mp4", "9 gone.mp4", "clip.dat"]
    assert told["sizes"][:3] == [110, 0, video.stat().st_size]
    assert re.fullmatch(r"0 of 5 uploaded · .* of .* MB · 2 failed", told["summary"])
    assert len(set(told["names"])) == len(told["names"])
    assert told["errors"] == [
        "This is not audio or video of a kind that Roughy knows.",
        "This file is too small to be audio or video.",
        "This file cannot be read. Was it moved, renamed or changed? Choose it again.",
    ]
    assert sorted(told["ready"]) == ["3.mp4", "clip.dat"]
    assert told["focus"] == "uploads-title"
    assert account.names_of_projects() == ["My uploads"]


def test_another_tab_shows_what_is_under_way_here(account: Roughy, video: Path) -> None:
    told = play("tabs", account.url, account, video)
    assert told["other"] == "Uploading in another tab"
    assert told["offered"] == 0
    assert told["left"] == "Unfinished"
    assert told["focus"] == "assets-title"
    assert told["status"] == "clip.mp4: cancelled"
    assert account.assets() == []


def test_a_key_is_kept_as_long_as_wanted_and_forgotten_only_if_it_is_wrong(
    account: Roughy,
) -> None:
    told = play("keys", account.url, account)
    assert told["error"] == "Roughy does not know this key."
    assert told["wrong"] == 0
    assert (told["forTab"], told["forBrowser"]) == (False, True)
    assert told["trouble"] == "Roughy cannot be reached. Check the connection."
    assert told["afterwards"] == 0
    assert told["link"] == f"{account.url}/"


def test_all_assets_can_be_reached_each_under_its_project_and_thousands_of_files_can_wait(
    account: Roughy, tmp_path: Path
) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.mp4").touch()
    first, second = account.new_project("First"), account.new_project("Second")
    for _ in range(22):
        account.refuse(first)
    account.refuse(second)
    account.create(1_000_000, second)
    told = play("many", account.url, account, tmp_path)
    assert (told["heading"], told["count"]) == ("Assets in First", "The newest 20 of 22")
    assert (told["all"], told["more"], told["focus"]) == (22, False, True)
    assert told["projects"] == 102
    assert told["unfinished"] == ["In Second"]
    assert told["second"] == ["Assets in Second", 1]
    assert told["waiting"] == ["0.mp4", 3 + 20], "what is sent, and the first that wait"
    assert told["hidden"] == "Show more of 2,978 others"
    assert told["paused"] == 20


def test_an_account_without_credits_is_told_so_and_asks_no_more(tmp_path: Path) -> None:
    port = free_port()
    command = ["-m", "examples.roughy", "--port", str(port), "--data", str(tmp_path / "poor")]
    settings = {"ROUGHY_API_KEYS": KEY, "ROUGHY_INITIAL_CREDITS": "0"}
    with running("roughy", command, port, tmp_path / "poor", **settings), Roughy(port) as poor:
        told = play("poor", poor.url, poor)
        assert told["error"] == "There are no credits left. Add some, then go on."
        assert told["asked"] == 3, "what is sent at once, and then nothing more"
        assert poor.assets() == []
