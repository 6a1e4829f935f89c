"""What can be set, in one place: from arguments, else `EVERLINE_*` variables, else the defaults below."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from everline.errors import InvalidInputError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process; every limit has its unit in its name."""

    home: Path = Path(".everline")
    """Directory of everything that is kept locally: database, blobs, keys, logs."""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite under the home directory."""
    blob_url: str = ""
    """Where content-addressed blobs live: a directory or an obstore URL; empty means under the home directory."""
    url: str = ""
    """Address of a control plane for clients; empty means embedded."""
    host: str = "127.0.0.1"
    """Address that a server binds to."""
    port: int = 4680
    """Port that the control plane binds to; 0 picks a free one."""
    login: bool = False
    """Whether people must log in; off is allowed on loopback only."""
    worker: bool = True
    """Whether this control-plane process also runs background jobs."""
    signing_key: str = ""
    """File of the Ed25519 key that signs; empty means `keys/signing.key` under the home directory."""

    json_body_bytes_max: int = 16 << 20
    """Largest JSON body."""
    blob_bytes_max: int = 8 << 30
    """Largest blob."""
    upload_keep_s: int = 24 * 3600
    """How long an upload in parts may take; what is unfinished then is forgotten."""
    collect_grace_s: int = 24 * 3600
    """How long bytes that nothing refers to are kept after they were found; longer than any upload takes."""
    direct_downloads: bool = False
    """Whether MLflow clients may be sent to the bucket itself for large artifacts; they must be able to reach it."""
    direct_download_s: int = 900
    """How long such an address is good for."""
    page_items_max: int = 1000
    """Most items of one page of a list."""
    metrics_per_batch_max: int = 1000
    """Most metrics of one MLflow batch."""
    stream_rows_max: int = 200_000
    """Most points of metrics in one request of a stream."""
    journal_bytes_max: int = 4 << 30
    """Most disk that one run's journal takes while the server does not answer."""
    system_metrics_s: float = 10.0
    """Pause between two looks at the machine that a run with `system_metrics` takes."""
    feedback_per_call_max: int = 10_000
    """Most outcomes of one feedback call."""
    segment_bytes_max: int = 64 << 20
    """Largest Parquet segment of the prediction log."""
    segment_rows_max: int = 1_000_000
    """Most predictions of one segment."""
    window_rows_max: int = 2_000_000
    """Most logged predictions that one question may read."""
    comparison_rows_max: int = 200_000
    """Most rows on which two models are compared in one call."""
    request_bytes_max: int = 8 << 20
    """Largest body of a request to an endpoint."""
    request_rows_max: int = 10_000
    """Most rows of one request to an endpoint."""
    connections_max: int = 4096
    """Most clients that are connected to a data plane at once."""
    keep_alive_s: float = 75.0
    """How long a data plane keeps a connection on which nothing happens."""
    batch_rows_max: int = 256
    """Most rows of several requests that a model is asked together."""
    batch_wait_s: float = 0.0
    """How long a request may wait for others to be asked with; 0 asks what arrived in one turn of the event loop."""
    kept_answers_max: int = 0
    """How many different requests of each revision a data plane keeps the model's answers to; 0 keeps none."""
    requests_in_flight_max: int = 2048
    """Most requests that a data plane has at hand at once; further ones are told to come back."""
    request_s: float = 10.0
    """How long a request to an endpoint may wait for its answer."""
    pickle_projects: str = ""
    """Projects, by comma, whose MLflow models may hold pickles, which run whatever their author put in there."""
    raw_segment_bytes_max: int = 4 << 20
    """Size at which a data plane closes a segment of its prediction log."""
    raw_segment_s: float = 2.0
    """Age at which a data plane closes a segment of its prediction log."""
    spool_bytes_max: int = 4 << 30
    """Most prediction log that waits on a data plane's disk; nothing is answered that cannot be logged."""
    control_plane_s: float = 30.0
    """How long a data plane waits for an answer of the control plane."""
    refused_retry_s: float = 30.0
    """Pause before a data plane tries a revision again that it refused or could not fetch."""
    health_report_s: float = 2.0
    """Pause between two health reports of a data plane."""
    drain_s: float = 15.0
    """How long a data plane that was told to stop may take to finish requests and ship its log."""
    dataplane_wait_s_max: float = 20.0
    """Longest time that a data plane's question for newer state is held open."""
    dataplane_waits_max: int = 8
    """Most such questions held open at once; further ones are answered at once."""
    health_keep_s: int = 3600
    """How long the samples of data-plane health are kept."""
    monitor_windows_max: int = 8
    """Most windows that one run of a monitor closes; the next run goes on."""
    monitor_features_max: int = 500
    """Most features that one monitor watches."""
    monitor_history_windows_max: int = 60
    """How many windows a diagnosis looks back for the moment of the change."""
    diagnosis_candidates_max: int = 8
    """Most features whose effect on the predictions a diagnosis measures."""
    webhook_private: bool = False
    """Whether webhooks may go to private and loopback addresses, and over http."""
    webhook_s: float = 10.0
    """How long a webhook's receiver may take to answer."""
    webhook_payload_bytes_max: int = 256 << 10
    """Largest body of a webhook delivery; tags and description are left out of a larger one."""
    webhook_senders: int = 2
    """How many webhook deliveries a control-plane process makes at once."""
    schedules_max: int = 1000
    """Most schedules of a project."""
    schedule_waiting_max: int = 1000
    """Most runs of one schedule that wait for their turn; further ones are skipped."""
    backfill_slots_max: int = 1000
    """Most slots that one backfill may ask for."""
    rollout_look_s: float = 5.0
    """Pause between two looks at the guards of a rollout."""
    rollout_rows_max: int = 20_000
    """Most logged predictions that one such look reads, the newest first."""
    experiment_rows_max: int = 500_000
    """Most logged predictions that one comparison of two revisions reads, the newest first."""
    access_log: str = ""
    """Where a data plane writes a line of JSON for each request: a file, or `stderr`; empty for nowhere."""
    tracing: bool = False
    """Whether a data plane sends OpenTelemetry spans; `OTEL_*` variables say where to."""
    tls_certificate: str = ""
    """File of a data plane's TLS certificate and its chain, in PEM; empty speaks plain HTTP."""
    tls_key: str = ""
    """File of the certificate's key, in PEM."""
    session_s: int = 12 * 3600
    """How long a login lasts."""
    pipeline_lease_s: int = 30
    """How long the driver of a pipeline's run may say nothing before another may go on with the run."""
    step_output_bytes_max: int = 1 << 20
    """How much of what a step prints is kept; the rest is counted."""
    step_output_keep_s: int = 90 * 24 * 3600
    """How long it is kept."""
    step_cache_keep_s: int = 90 * 24 * 3600
    """How long the result of a step is kept for reuse after it was last used."""
    job_lease_s: int = 60
    """How long a worker may hold a job without a sign of life."""
    job_attempts_max: int = 5
    """How often a failing job is tried."""
    poll_s: float = 0.5
    """Pause of the worker between looks for due jobs."""
    checkpoint_s: float = 30.0
    """Pause between signed checkpoints of a growing audit log."""
    log_name: str = "everline"
    """Name of the audit log and its key, such as log.example: its origin by C2SP, by which witnesses know it."""
    metric_flush_s: float = 0.05
    """On SQLite, how long after its answer a metric may take to survive a power cut too; 0 waits for the disk."""
    sqlite_busy_s: float = 30.0
    """How long a SQLite writer waits for another."""
    pool_connections_max: int = 16
    """Most database connections of one process."""
    gathered_requests_max: int = 10_000
    """Most small requests that wait to be answered together; further ones are told to come back."""
    request_threads_max: int = 16
    """Most requests of the control plane at work at once."""

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Merge arguments (None means not given) over the environment over the defaults."""
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(cls):
            text = os.environ.get(f"EVERLINE_{field.name.upper()}")
            if text is not None:
                values[field.name] = text
        values |= {name: value for name, value in overrides.items() if value is not None}
        try:
            settings = msgspec.convert(values, cls, strict=False, dec_hook=_path_hook)
        except msgspec.ValidationError as error:
            raise InvalidInputError(
                f"A setting cannot be used: {error}.",
                hint="Settings come from arguments and EVERLINE_* variables; see docs/settings.md.",
            ) from None
        if not 0 <= settings.port <= 65_535:
            raise InvalidInputError(f"There is no port {settings.port}.", hint="Use 0 to 65535.", field="port")
        if settings.url and not settings.url.startswith(("http://", "https://")):
            raise InvalidInputError(
                f"{settings.url[:80]!r} is not a server's address.",
                hint="Write it like http://127.0.0.1:4680.",
                field="url",
            )
        return settings

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'everline.db'}"

    @property
    def blobs(self) -> str:
        """The blob URL in force."""
        return self.blob_url or str(self.home.absolute() / "blobs")

    @property
    def signing_key_file(self) -> Path:
        """The signing key's file in force."""
        return Path(self.signing_key) if self.signing_key else self.home / "keys" / "signing.key"


def _path_hook(kind: type, value: Any) -> Any:
    return Path(value) if kind is Path else value
