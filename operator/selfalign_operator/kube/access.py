"""How the apiserver is reached: by a kubeconfig, or as a pod by its service account. One aiohttp session each call.

kubernetes.aio reads the configuration (tokens, certificates, exec plugins, OIDC) and refreshes a pod's token; its models
and its generated API are not used: a JSON object in, a JSON object out is all that the operator needs.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from selfalign_api import __version__
from selfalign_api.errors import ConfigError
from selfalign_operator.kube.traffic import ApiResponse, Traffic, observing

__all__ = ["open_session"]

USER_AGENT = f"selfalign-operator/{__version__}"
MAX_BUFFER_BYTES = 1 << 20


async def open_session(kubeconfig: Path | None, traffic: Traffic) -> tuple[str, aiohttp.ClientSession]:
    """The apiserver's address and a session that may talk to it, by credentials read anew.

    Without a kubeconfig: the pod's service account, else $KUBECONFIG or ~/.kube/config. Raises ConfigError.
    """
    configuration = await _configuration(kubeconfig)
    rest = RESTClientObject(configuration)

    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        token = await configuration.get_api_key_with_prefix("BearerToken")
        if token is not None:
            request.headers["Authorization"] = token
        if configuration.tls_server_name:
            request.server_hostname = configuration.tls_server_name
        return await handler(request)

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=rest.ssl_context, limit=0),  # the workers bound what is under way
        headers={"User-Agent": USER_AGENT},
        proxy=configuration.proxy or _proxy_of_environment(configuration.host),
        read_bufsize=MAX_BUFFER_BYTES,
        response_class=ApiResponse,
        middlewares=(observing(traffic), authorize),
    )
    return configuration.host.rstrip("/"), session


def _proxy_of_environment(server: str) -> str | None:
    """HTTPS_PROXY and NO_PROXY, read once: aiohttp's trust_env asks two threads at each call, for ~/.netrc as well."""
    parts = urlsplit(server)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


async def _configuration(kubeconfig: Path | None) -> Configuration:
    configuration = Configuration()
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
            return configuration
        file = kubeconfig or Path(kubernetes_config.KUBE_CONFIG_DEFAULT_LOCATION)
        if kubeconfig is not None and not kubeconfig.is_file():
            raise ConfigError.one(str(kubeconfig), "there is no such file")
        await kubernetes_config.load_kube_config(
            config_file=str(file), client_configuration=configuration, persist_config=False
        )
    except kubernetes_config.ConfigException as error:
        place = str(kubeconfig) if kubeconfig else "kubeconfig"
        raise ConfigError.one(
            place, f"no access to a cluster: {error}; give --kubeconfig FILE, or run in a pod with a service account"
        ) from error
    return configuration
