"""Options of node and pull: one meaning on the command line and in a YAML file."""

import pytest

from simfrcnn.cli.main import main
from simfrcnn.errors import ConfigError
from simfrcnn.service.options import NodeOptions, PullOptions, read_options
from simfrcnn.service.sending import DicomWeb, Pacs, require_url, targets_of


def test_a_config_file_says_what_the_line_does_not(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(
        "folder: data\nport: 11112\nto: PACS@pacs.example:104\nstable-after: 90\n"
        "dicom: sr,gsps\nallow_ae: [MODALITY_1, MODALITY_2]\naddress: 0.0.0.0\n"
    )
    options = read_options(NodeOptions, {"port": 4242}, path)
    assert (options.port, options.stable_after) == (4242, 90.0)
    assert str(options.folder) == "data"
    assert options.to == ("PACS@pacs.example:104",)
    assert (options.dicom, options.allow_ae) == (("sr", "gsps"), ("MODALITY_1", "MODALITY_2"))
    assert options.dimse_timeout == NodeOptions().dimse_timeout
    path.write_text("from: http://a/dicom-web\nsince: 2026-01-02\n")
    pull = read_options(PullOptions, {}, path)
    assert (pull.source, pull.since) == ("http://a/dicom-web", "2026-01-02")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("aet: 0123", "aet", "0123"),
        ("aet: 0x1F", "aet", "0x1F"),
        ("aet: null", "aet", "null"),
        ("aet: 2026-01-02", "aet", "2026-01-02"),
        ("allow-ae: [ON, 0123, 1_0]", "allow_ae", ("ON", "0123", "1_0")),
        ("allow-ae: 'ON, NO,'", "allow_ae", ("ON", "NO")),
        ("allow-ae: yes", "allow_ae", ("yes",)),
        ("allow-ae: []", "allow_ae", ()),
        ("stable-after: 1e2", "stable_after", 100.0),
        ("port: 011112", "port", 11112),
        ("weights: 1.0", "weights", "1.0"),
    ],
)
def test_a_value_of_the_file_is_its_text_as_on_the_line(tmp_path, text, name, value):
    (tmp_path / "node.yaml").write_text(text)
    assert getattr(read_options(NodeOptions, {}, tmp_path / "node.yaml"), name) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allow-ae:", "allow-ae has an empty value: give one, or leave the key out"),
        ("allow-ae: ','", "allow-ae has an empty value"),
        ("allow-ae: [MOD1, '']", "allow-ae has an empty value"),
        ("aet:", "aet has an empty value"),
        ("folder: ''", "folder has an empty value"),
        ("stable-after: 1:30", "stable-after is '1:30'; legal is at least 0"),
        ("to: {PACS: 104}", "to is {'PACS': '104'}; legal is one value"),
        ("allow-ae: [[MOD1]]", "allow-ae is .*; legal is one value"),
        ("port: {a: 1}", "port is .*; legal is one value"),
        ("stable-aftr: 5", "Did you mean stable-after"),
        ("port: [1, 2]", "port is a list"),
        ("port: many", "port is 'many'"),
        ("port: 70000", r"--port is 70000; legal is a number in \[1, 65535\]"),
        ("port: 0", r"--port is 0; legal is a number in \[1, 65535\]"),
        ("aet: a title that is far too long", "--aet is"),
        ("- port", "options and their values are legal"),
        ("port: {", "cannot be read"),
    ],
)
def test_a_bad_config_file_is_refused_with_the_key(tmp_path, text, message):
    (tmp_path / "node.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_options(NodeOptions, {}, tmp_path / "node.yaml")


def test_an_address_that_others_reach_asks_for_ae_titles():
    with pytest.raises(ConfigError, match="give --allow-ae"):
        NodeOptions(address="0.0.0.0")
    assert NodeOptions(address="0.0.0.0", allow_ae=("MOD1",)).allow_ae == ("MOD1",)


def test_targets_are_told_apart_and_bad_ones_refused():
    options = NodeOptions(to=("PACS@[::1]:104", "https://a/dicom-web/", "PACS@[::1]:104"))
    pacs, web = targets_of(options)
    assert isinstance(pacs, Pacs)
    assert (pacs.called, pacs.host, pacs.port) == ("PACS", "::1", 104)
    assert isinstance(web, DicomWeb)
    assert web.name == "https://a/dicom-web"
    for text in ("pacs:104", "PACS@pacs", "PACS@pacs:0", "PACS@pacs:70000", "A B@pacs:1"):
        with pytest.raises(ConfigError, match="--to is"):
            targets_of(NodeOptions(to=(text,)))
    with pytest.raises(ConfigError, match="--to is 'ftp://a'"):
        targets_of(NodeOptions(to=("ftp://a",)))


def test_a_secret_in_a_url_is_refused_and_not_repeated():
    for url in ("http://user:hush@pacs/dicom-web", "http://pacs/dicom-web?token=hush"):
        with pytest.raises(ConfigError, match="SIMFRCNN_DICOMWEB_TOKEN") as caught:
            require_url("--from", url)
        assert "hush" not in str(caught.value)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dicomweb_client", None)
    monkeypatch.setitem(__import__("sys").modules, "pynetdicom", None)
    for text in ("PACS@pacs:104", "http://pacs/dicom-web"):
        with pytest.raises(ConfigError, match=r"pip install 'simfrcnn\[node\]'"):
            targets_of(NodeOptions(to=(text,)))


def test_the_current_folder_can_be_given(tmp_path, monkeypatch, capsys):
    """The folder `.` is one; before, it counted as none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node.yaml").write_text("folder: .\n")
    assert read_options(NodeOptions, {}, tmp_path / "node.yaml").folder == tmp_path
    assert main(["node", "--folder", ".", "--weights", "cbis-mass"]) == 2
    assert "error: --to and --port must be given" in capsys.readouterr().err


def test_what_is_missing_is_named_and_nothing_is_made(tmp_path, capsys):
    folder = tmp_path / "node"
    assert main(["node", "--folder", str(folder), "--port", "11112"]) == 2
    assert "--to and --weights must be given" in capsys.readouterr().err
    assert main(["pull", "--folder", str(folder), "--weights", "cbis-mass"]) == 2
    assert "--from and --since must be given" in capsys.readouterr().err
    words = ["pull", "--folder", str(folder), "--weights", "cbis-mass", "--from", "http://a/b"]
    assert main([*words, "--since", "yesterday"]) == 2
    assert "--since is 'yesterday'; legal is a date" in capsys.readouterr().err
    assert main(["node", "--retry-failed", str(folder)]) == 2
    assert "is not the folder of a node" in capsys.readouterr().err
    assert main(["node", "--health", str(folder)]) == 2
    assert not folder.exists()
