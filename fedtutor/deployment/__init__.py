"""From the notebook to hospitals: a federation of real processes, with TLS and keys.

For learning and for rehearsing: what is started here is Flower's own SuperLink and SuperNodes, as
in real hospitals, and no second implementation of anything.
"""

from fedtutor.deployment.appfolder import write_app
from fedtutor.deployment.certificates import TlsFiles, write_key_pair, write_tls_files
from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.proxy import RecordingProxy
from fedtutor.deployment.running import Running
from fedtutor.deployment.superlink import LocalSimulation, SuperLink

__all__ = [
    "LocalFederation",
    "LocalSimulation",
    "RecordingProxy",
    "Running",
    "SuperLink",
    "TlsFiles",
    "write_app",
    "write_key_pair",
    "write_tls_files",
]
