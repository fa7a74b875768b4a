"""The composition root: the only module that names adapters. It reads like a parts list."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import structlog

from kms.core.names import KeyName, KeyUid, Principal
from kms.core.ports import HealthStatus, PartHealth
from kms.crypto.cache import DekCache
from kms.hardening import harden
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.metrics import Metrics
from kms.rpc.calls import Calls
from kms.rpc.crypto import CryptoServicer
from kms.rpc.identity import Identities
from kms.rpc.keys import KeyServicer
from kms.rpc.methods import METHODS, SERVICES, check_complete
from kms.rpc.server import RpcServer
from kms.rpc.tenants import TenantServicer
from kms.services.counting import UsageCounters
from kms.services.data_keys import DataKeys
from kms.services.fields import Fields
from kms.services.health import HealthMonitor
from kms.services.keks import Keks
from kms.services.keyrings import Keyrings, ReadyVersion, Ring
from kms.services.keys import Keys
from kms.services.tenants import Tenants
from kms.services.wrapping import DekWrapping
from kms.settings import PostgresqlStorage, Settings, Token
from kms.tracing import Tracing
from storage.migrate import require_current
from storage.ownership import own_directory
