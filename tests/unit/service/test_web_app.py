"""Studies in, results out: the routes of `serve`, and what they refuse."""

import asyncio
import io
import json
import logging
import shutil
import time
import zipfile

import cv2
import numpy as np
import pydicom
import pytest
from starlette.testclient import TestClient

from simfrcnn.service.web import quiet_libraries
from simfrcnn.service.web_guard import Access
from simfrcnn.service.web_uploads import Bounds
from support.canaries import MARKS, canary_folder, write_canary
from support.studies import files_below, write_study, write_view
from support.web import app_of, studies_in, wait_until_done


@pytest.fixture
def folder(tmp_path):
    """Two studies that lie there, and nothing judged."""
    for number in range(2):
        write_study(tmp_path / "folder", number, n_views=2)
    return tmp_path / "folder"


@pytest.fixture
def studies(folder):
    with studies_in(folder) as running:
        yield running


@pytest.fixture
def client(studies):
    return client_of(app_of(studies))


def client_of(app, **options):
    return TestClient(app, base_url="http://127.0.0.1", **options)


def sent(client, *contents, **options):
    files = [("files", (f"{n}", content)) for n, content in enumerate(contents)]
    return client.post("/studies", files=files, **options)


def refusal(response, status):
    """The answer of a refusal, which says what is legal and what to do."""
    assert response.status_code == status, response.text
    content = response.json()
    assert list(content) == ["error", "legal", "remedy"]
    assert all(content.values())
    return content["error"]


def dicom_bytes(folder, number=7, n_views=2, **tags):
    return [path.read_bytes() for path in write_study(folder, number, n_views=n_views, **tags)]


def zipped(*contents, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"../../{number}", content)
    return stream.getvalue()


def test_a_study_of_the_folder_is_judged_when_it_is_picked(client, studies):
    listed = client.get("/studies").json()["studies"]
    assert [(one["patient_id"], one["state"], one["files"]) for one in listed] == [
        ("P0", "new", 2),
        ("P1", "new", 2),
    ]
    name = listed[1]["id"]
    refusal(client.get(f"/results/{name}.json"), 404)
    assert client.post(f"/studies/{name}").status_code == 202
    wait_until_done(studies, 1)
    assert client.get(f"/studies/{name}").json()["call"] == "positive"
    result = client.get(f"/results/{name}.json").json()
    assert result["exam_id"] == "1.2.3.1"
    assert [image["file"] for image in result["images"]] == ["study1/LCC.dcm", "study1/RCC.dcm"]
    assert client.get(f"/results/{name}").json() == result
    page = client.get(f"/results/{name}", headers={"Accept": "text/html"})
    assert page.text == client.get("/").text
    assert client.get(f"/studies/{listed[0]['id']}").json()["state"] == "new"


def test_an_upload_is_a_folder_of_numbers_and_its_study_is_judged(client, studies, tmp_path):
    films = dicom_bytes(tmp_path / "other")
    response = sent(client, films[0], zipped(films[1], b"a text that is no image"))
    assert response.status_code == 202
    (study,) = response.json()["studies"]
    assert (study["patient_id"], study["files"]) == ("P7", 2)
    wait_until_done(studies, 1)
    result = client.get(f"/results/{study['id']}.json").json()
    names = [image["file"] for image in result["images"]]
    assert [name.rpartition("/")[2] for name in names] == ["0001.dcm", "0002.dcm"]
    (upload,) = studies.uploads.iterdir()
    assert {path.read_bytes() for path in upload.iterdir()} == set(films)


def test_pictures_are_exams_of_their_own(client, studies):
    picture = cv2.imencode(".png", np.full((40, 30), 90, np.uint8))[1].tobytes()
    added = sent(client, picture, picture).json()["studies"]
    assert len(added) == 2
    wait_until_done(studies, 2)
    (block,) = {client.get(f"/results/{one['id']}/films/0").content for one in added}
    header, samples = opened(block)
    assert (header["width"], header["height"], header["bits"]) == (30, 40, 8)
    assert (samples == 90).all()


def opened(block):
    """Header and samples of a block of pixels."""
    length = int.from_bytes(block[:4], "little")
    header = json.loads(block[4 : 4 + length])
    dtype = np.dtype(f"<u{header['bits'] // 8}")
    samples = np.frombuffer(block[4 + length :], dtype)
    return header, samples.reshape(header["height"], header["width"])


def test_pixels_are_those_of_the_source_as_it_hangs(client, studies, folder):
    name = client.get("/studies").json()["studies"][0]["id"]
    studies.submit(name)
    wait_until_done(studies, 1)
    number = [i["file"] for i in client.get(f"/results/{name}.json").json()["images"]].index(
        "study0/RCC.dcm"
    )
    header, samples = opened(client.get(f"/results/{name}/films/{number}").content)
    stored = pydicom.dcmread(folder / "study0" / "RCC.dcm").pixel_array
    if header["mirrored"]:
        stored = stored[:, ::-1]
    assert not header["upside_down"]
    low, high = int(stored.min()), int(stored.max())
    back = samples / 65535 * (high - low) + low
    assert np.abs(back - stored).max() < 0.51  # every stored value can be told from the next
    # The file's window 0..2400 (1200 / 2400) as parts of the values that occur.
    window = [low + header[end] * (high - low) for end in ("low", "high")]
    assert window == pytest.approx([-0.5, 2399.5], abs=2)
    half, small = opened(client.get(f"/results/{name}/films/{number}?reduce=2").content)
    assert small.shape == (48, 36)
    assert abs(int(small[20, 20]) - samples[40:42, 40:42].mean()) <= 1
    assert half["low"] == header["low"]
    for bad in ("films/9", "films/-1", "films/x", f"films/{number}?reduce=3"):
        refusal(client.get(f"/results/{name}/{bad}"), 404)


def test_class_maps_and_outlines_of_a_result(client, studies, folder):
    name = client.get("/studies").json()["studies"][0]["id"]
    client.post(f"/studies/{name}")
    wait_until_done(studies, 1)
    result = client.get(f"/results/{name}.json").json()
    image = result["images"][0]
    h, w = image["height"], image["width"]
    assert list(image["class_maps"]) == ["malignant"]
    answer = client.get(f"/results/{name}/films/0/maps/0")
    assert answer.headers["content-type"] == "image/png"
    values = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert [int(values[0, 0]), int(values[-1, 0]), int(values[-1, -1])] == [0, 51, 255]
    outlines = client.get(f"/results/{name}/outlines").json()
    assert len(outlines) == len(result["images"])
    (ring,), nothing = outlines[0]
    assert nothing is None
    xs, ys = ring[::2], ring[1::2]
    assert [min(xs), min(ys), max(xs), max(ys)] == [w / 4, h / 4, 3 * w / 4, h / 2]
    assert image["detections"][0]["second_look_xyxy_px"] == [-10, h / 4, w / 2, h / 4 + w / 2 + 10]
    for place, legal in (("0/maps/1", "0 to 0"), ("99/maps/0", "none"), ("0/maps/-1", "0 to 0"),
                         ("x/maps/0", "0 to 0"), ("0/maps/9999999", "0 to 0")):  # fmt: skip
        refused = client.get(f"/results/{name}/films/{place}")
        assert refused.status_code == 404
        assert refused.json()["legal"].startswith(legal)
    (folder / "results" / image["class_maps"]["malignant"]).unlink()
    assert client.get(f"/results/{name}/films/0/maps/0").status_code == 410


def test_results_stay_and_what_was_not_judged_is_taken_up_again(folder, tmp_path):
    judged = []

    def slow(sources):
        judged.append(sources)
        raise KeyError("a name that must not be shown")

    with studies_in(folder, slow) as studies:
        (study,) = sent(client_of(app_of(studies)), *dicom_bytes(tmp_path / "x")).json()["studies"]
        wait_until_done(studies, 1)
        failed = studies.study(study["id"])
        assert failed.state == "failed"
        assert failed.problem == "it could not be judged: unexpected KeyError"
    leftover = folder / "uploads" / ".unfinished-x"
    leftover.mkdir()
    with studies_in(folder) as studies:  # the upload is judged without being asked for
        wait_until_done(studies, 1)
        before = studies.result(study["id"])
    with studies_in(folder, slow) as studies:
        assert studies.result(study["id"]) == before
    assert len(judged) == 1


def test_more_films_of_a_study_are_judged_with_the_first(client, studies, tmp_path):
    films = dicom_bytes(tmp_path / "other", n_views=4)
    sent(client, *films[:2])
    wait_until_done(studies, 1)
    (again,) = sent(client, *films[1:]).json()["studies"]
    wait_until_done(studies, 1)
    assert client.get(f"/studies/{again['id']}").json()["files"] == 5
    assert len(studies.result(again["id"])["images"]) == 4


def test_a_study_whose_header_changed_at_the_same_size_is_new(client, studies, folder):
    (name,) = [o["id"] for o in client.get("/studies").json()["studies"] if o["patient_id"] == "P1"]
    client.post(f"/studies/{name}")
    wait_until_done(studies, 1)
    path = folder / "study1" / "RCC.dcm"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CS\x02\x00R ", b"CS\x02\x00L "))
    assert path.stat().st_size == len(content)
    studies.look_again(at_once=True)
    assert studies.study(name).state == "new"


def test_dicom_reports(client, studies):
    pytest.importorskip("highdicom")
    name = client.get("/studies").json()["studies"][0]["id"]
    studies.submit(name)
    wait_until_done(studies, 1)
    for kind, sop_class in (("sr", "88.33"), ("cad-sr", "88.50")):
        response = client.get(f"/results/{name}.{kind}.dcm")
        assert response.headers["content-type"] == "application/dicom"
        report = pydicom.dcmread(io.BytesIO(response.content))
        assert report.SOPClassUID.endswith(sop_class)
        assert report.StudyInstanceUID == "1.2.3.0"
    assert "form" in refusal(client.get(f"/results/{name}.pdf"), 404)


def test_a_study_of_pictures_has_no_dicom_report(client, studies):
    picture = cv2.imencode(".png", np.full((40, 30), 90, np.uint8))[1].tobytes()
    (study,) = sent(client, picture).json()["studies"]
    wait_until_done(studies, 1)
    assert "no DICOM files" in refusal(client.get(f"/results/{study['id']}.cad-sr.dcm"), 422)


REFUSED = {
    "nothing": ([], 400, "form"),
    "an empty file": ([b""], 422, "no image"),
    "a text": ([b"a text" * 100], 422, "no image"),
    "a damaged DICOM file": ([b"\0" * 128 + b"DICM" + b"x" * 50], 422, "can be judged"),
    "a damaged zip file": ([b"PK\x03\x04" + b"x" * 100], 400, "zip"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_upload_that_cannot_be_used_leaves_nothing(client, studies, name):
    contents, status, words = REFUSED[name]
    assert words in refusal(sent(client, *contents), status)
    assert not studies.uploads.exists() or not list(studies.uploads.iterdir())


def test_another_modality_is_refused_and_says_so(client, tmp_path):
    (film,) = dicom_bytes(tmp_path / "other", n_views=1, Modality="CT")
    assert "not a mammogram" in refusal(sent(client, film), 422)


def test_uploads_are_bounded(studies, tmp_path):
    films = dicom_bytes(tmp_path / "other", n_views=4)
    one = len(films[0])

    def client(max_bytes, max_files=20):
        return client_of(app_of(studies, bounds=Bounds(max_bytes, max_files, 100)))

    assert "too large" in refusal(sent(client(2 * one), *films), 413)
    assert "too large" in refusal(sent(client(2 * one), zipped(*films)), 413)  # it is small, packed
    assert "files" in refusal(sent(client(10**7, 3), zipped(*films)), 413)
    refusal(sent(client(10**7, 3), *films), 400)
    bomb = zipped(b"\0" * 128 + b"DICM" + bytes(60 * 2**20))
    assert len(bomb) < 10**5
    assert "inflates" in refusal(sent(client(10**9), bomb), 400)
    assert "too large" in refusal(client(1).post("/studies", content=bytes(10**6)), 413)
    chunks = (bytes(10**5) for _ in range(20))  # without Content-Length
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client(1).post("/studies", content=chunks, headers=headers).status_code in (400, 413)
    assert not list(studies.uploads.glob("*"))


def test_a_full_queue_says_when_to_come_again(folder):
    go_on = []

    def waits(sources):
        while not go_on:
            time.sleep(0.01)

    with studies_in(folder, waits, n_waiting=1) as studies:
        client = client_of(app_of(studies))
        first, second = (one["id"] for one in client.get("/studies").json()["studies"])
        assert client.post(f"/studies/{first}").status_code == 202
        response = client.post(f"/studies/{second}")
        assert "waiting" in refusal(response, 503)
        assert int(response.headers["retry-after"]) > 0
        assert sent(client, b"").status_code == 503
        assert refusal(client.get(f"/results/{first}.json"), 409)
        assert client.get("/health").json()["waiting"] == 1
        go_on.append(True)


def test_few_uploads_are_received_at_a_time(studies):
    scope = {
        "type": "http", "method": "POST", "path": "/studies", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")],
    }  # fmt: skip
    app = app_of(studies)
    answers = []

    async def upload(until):
        async def receive():
            await until.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            answers.append(message.get("status"))

        await app(dict(scope), receive, send)

    async def five():
        until = asyncio.Event()
        waiting = [asyncio.create_task(upload(until)) for _ in range(4)]
        await asyncio.sleep(0.1)
        assert answers == []
        await upload(until)
        assert answers[0] == 503
        until.set()
        await asyncio.gather(*waiting)

    asyncio.run(five())
    assert sent(client_of(app), b"").status_code == 422  # there is room again


def test_uploads_are_rated(studies):
    client = client_of(app_of(studies, bounds=Bounds(10**6, 5, per_minute=2)))
    assert [sent(client, b"x").status_code for _ in range(3)] == [422, 422, 429]


def test_a_token_is_asked_for_and_never_shown(studies, caplog):
    token = b"0123456789abcdef-token"
    client = client_of(app_of(studies, Access(token)))
    with caplog.at_level(logging.DEBUG):
        for path in ("/studies", "/model", "/results/x.json", "/results/x/films/0", "/nothing"):
            refusal(client.get(path), 401)
            for wrong in ("Bearer", "Bearer 0123456789abcdef-tokem", token.decode(), "Bearer é"):
                headers = {"Authorization": wrong.encode("latin-1")}
                assert client.get(path, headers=headers).status_code == 401
        right = {"Authorization": f"Bearer {token.decode()}"}
        assert client.get("/studies", headers=right).status_code == 200
        for path in ("/", "/health", "/page/serve.js", "/page/viewer.css"):
            response = client.get(path)
            assert response.status_code == 200
            assert token.decode() not in response.text
    assert token.decode() not in caplog.text


def test_other_sites_and_names_are_refused(client):
    get = client.get
    assert get("/studies", headers={"Host": "evil.example"}).status_code == 421
    assert get("/studies", headers={"Host": "[::1]:8080"}).status_code == 200
    assert get("/studies", headers={"Host": "localhost:8080"}).status_code == 200
    assert "another site" in refusal(get("/studies", headers={"Origin": "http://evil"}), 403)
    for origin in ("null", "http://[", "x", ""):
        assert get("/studies", headers={"Origin": origin}).status_code == 403
    assert get("/studies", headers={"Origin": "http://127.0.0.1"}).status_code == 200
    assert sent(client, b"", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert get("/", headers=visit).status_code == 200


def test_a_proxy_may_give_a_server_with_a_token_its_own_name(studies):
    client = client_of(app_of(studies, Access(b"0123456789abcdef")))
    bearer = {"Authorization": "Bearer 0123456789abcdef"}

    def status(host, origin):
        headers = {**bearer, "Host": host, "Origin": origin}
        return client.get("/studies", headers=headers).status_code

    assert status("reading.example", "https://reading.example") == 200
    assert status("reading.example:443", "https://reading.example") == 200
    assert status("reading.example:8443", "https://reading.example:8443") == 200
    assert status("reading.example", "https://evil.example") == 403
    assert status("reading.example:8443", "https://reading.example") == 403
    assert status("127.0.0.1:8080", "https://reading.example") == 403  # Host is not passed on


@pytest.mark.parametrize(
    "path",
    [
        "/results/..%2f..%2fetc%2fpasswd",
        "/results/../../../etc/passwd",
        "/results/%2e%2e/films/0",
        "/studies/..%2fstudy0",
        "/page/..%2fweb.py",
        "/page/../web.py",
        "/results/exam-0.json%00",
        "/uploads/",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_path_leads_to_a_file(client, path):
    refusal(client.get(path), 404)
    refusal(client.request("DELETE", "/studies"), 405)


def test_headers_of_every_answer(client):
    for path in ("/", "/page/viewer.js", "/studies", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert client.get("/page/viewer.js").headers["content-type"].startswith("text/javascript")


def test_no_identifier_reaches_a_log_or_an_error(tmp_path, caplog, capfd):
    place = canary_folder(tmp_path / "folder")
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 4000, (60, 40)).astype(np.uint16)
    tags = {"ImageLaterality": "L", "ViewPosition": "CC"}
    film = write_canary(place / "canary doe.dcm", stored, 2, **tags)
    other = write_canary(tmp_path / "other canary.dcm", stored, 4, Modality="CT")
    (place / "canary cut.dcm").write_bytes(film.read_bytes()[:700])
    answers = []
    caplog.clear()  # pydicom's remarks on what the test has written
    with (
        caplog.at_level(logging.DEBUG),
        quiet_libraries(),
        studies_in(tmp_path / "folder") as studies,
    ):
        client = client_of(app_of(studies))
        listed = client.get("/studies").json()["studies"]
        assert any("canary" in one["patient_id"] for one in listed)  # its owner sees it
        name = listed[0]["id"]
        client.post(f"/studies/{name}")
        wait_until_done(studies, 1)
        for content in (other.read_bytes(), film.read_bytes()[:400], b"Doe^Jane canary"):
            files = {"files": ("canary Doe^Jane.dcm", content)}
            answers.append(client.post("/studies", files=files))
        answers.append(client.get(f"/results/{name}/films/7"))
        answers.append(client.get("/results/canary.json"))
        answers.append(client.get("/canary%20doe"))
        shutil.move(film, tmp_path / "gone")
        answers.append(client.get(f"/results/{name}/films/0"))
        answers.append(client.get(f"/results/{name}.sr.dcm"))
    assert all(response.status_code >= 400 for response in answers)
    kept = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "asyncio"))]
    assert sum(line.startswith(("GET", "POST")) for line in kept) == 10
    said = "\n".join([*kept, *capfd.readouterr(), *(one.text for one in answers)])
    assert [mark for mark in MARKS if mark in said.lower()] == []


def test_the_films_of_the_folder_stay_as_they_are(folder):
    before = files_below(folder)
    with studies_in(folder) as studies:
        for study in studies.listed():
            studies.submit(study.id)
        wait_until_done(studies, 2)
    after = files_below(folder)
    assert {name: after[name] for name in before} == before
    assert {name.partition("/")[0] for name in after.keys() - before} == {"results"}


def test_a_small_view_and_one_of_one_grey(tmp_path):
    write_view(tmp_path / "f" / "a.dcm", height=24, width=20, StudyInstanceUID="1.9", PatientID="Q")
    with studies_in(tmp_path / "f") as studies:
        client = client_of(app_of(studies))
        (study,) = studies.listed()
        studies.submit(study.id)
        wait_until_done(studies, 1)
        header, samples = opened(client.get(f"/results/{study.id}/films/0?reduce=8").content)
        assert samples.shape == (3, 2)
        assert len(header["curve"]) == 257
