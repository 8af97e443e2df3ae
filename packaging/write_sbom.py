"""Writes what sbom.py found as CycloneDX 1.6 JSON. Runs in the tools' environment: write_sbom.py FACTS OUT."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def package(facts: dict) -> Component:
    """Return a Python package with its native libraries inside."""
    name, version = facts["name"], facts["version"]
    parts = [
        Component(
            name=native["name"],
            version=native["version"] or None,
            type=ComponentType.LIBRARY if native["bundled"] else ComponentType.FILE,
            bom_ref=f"{name}/{native['file']}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=native["sha256"])],
            properties=[Property(name="forebay:path", value=native["file"])],
        )
        for native in facts["native"]
    ]
    parts += [
        Component(
            name=library["name"],
            version=library["version"] or None,
            type=ComponentType.LIBRARY,
            bom_ref=f"{name}#{library['name']}",
            properties=[
                Property(
                    name="forebay:linked",
                    value="statically" if library["version"] else "statically, version not visible",
                )
            ],
        )
        for library in facts["static"]
    ]
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{version}",
        purl=PackageURL("pypi", None, name, version),
        licenses=[DisjunctiveLicense(name=facts["license"])] if facts["license"] else None,
        components=parts,
    )


def main(source: str, target: str) -> None:
    """Write the bill."""
    facts = json.loads(Path(source).read_text())
    bom = Bom(components=[package(p) for p in facts["packages"]], serial_number=uuid.UUID(facts["serial"]))
    bom.metadata.timestamp = datetime.fromisoformat(facts["time"])
    own = next(p for p in facts["packages"] if p["name"] == "forebay")
    bom.metadata.component = application = Component(
        name="forebay", version=own["version"], type=ComponentType.APPLICATION, bom_ref="forebay",
        properties=[Property(name="forebay:arch", value=facts["arch"])],
    )  # fmt: skip
    bom.register_dependency(application, bom.components)
    Path(target).write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n")


main(*sys.argv[1:])
