"""What is in `deploy/` agrees with the command, and with the metrics that it has."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tusasgi.metrics import Metrics
from tusasgi.server.options import read_arguments

DEPLOY = Path(__file__).parent.parent / "deploy"


def names_and_labels() -> dict[str, set[str]]:
    """Return the names of what is exported, each with the labels that it has."""
    registry = CollectorRegistry()
    Metrics(registry)
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_a_panel_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    exported = names_and_labels()
    (name,) = re.findall(r"tusasgi_\w+", expression)
    assert name in exported
    asked = set(re.findall(r"(\w+)(?:=~|=)\"", expression))
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        asked |= {label.strip() for label in labels.split(",")}
    assert asked - {"job"} <= exported[name]


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(expressions())
    families = {
        re.sub(r"_(total|bucket|sum|count|created)$", "", one) for one in names_and_labels()
    }
    assert [name for name in families if name not in shown] == []


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_unit_starts_the_command_with_options_that_it_has() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment]  # systemd tells case apart
    unit.read(DEPLOY / "tusasgi.service")
    program, *words = shlex.split(unit["Service"]["ExecStart"].replace("%S", "/var/lib"))
    assert Path(program).name == "tusasgi"
    command, settings, _ = read_arguments(words, {})
    assert (command, settings.dir) == ("serve", "/var/lib/tusasgi")
    assert int(unit["Service"]["TimeoutStopSec"]) > settings.stop_timeout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "tusasgi.service"
    text = (DEPLOY / "tusasgi.service").read_text()
    unit.write_text(text.replace("/opt/tusasgi/bin/tusasgi", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_sets_what_there_is_and_starts_the_server() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    said = dict(line.split(" ", 1) for line in lines)
    assert (json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])) == (["tusasgi"], ["serve"])
    environment = dict(word.split("=", 1) for word in shlex.split(said["ENV"]))
    command, settings, _ = read_arguments(json.loads(said["CMD"]), environment)
    assert command == "serve"
    assert (settings.dir, settings.host) == (said["VOLUME"], "0.0.0.0")
    assert settings.monitor is not None
    assert said["EXPOSE"].split() == [str(settings.port), str(settings.monitor.port)]
