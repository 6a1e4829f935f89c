"""A data plane as a process beside a simulated control plane, for every test of serving."""

from integration.serving.test_dataplane_process import control as control
from integration.serving.test_dataplane_process import packages as packages
from integration.serving.test_dataplane_process import running as running
from integration.serving.test_dataplane_process import shared as shared
from integration.serving.test_dataplane_process import start as start
