from setuptools import find_packages, setup

FIRST_PARTY = ["accounts", "admin", "chat", "errors", "monitoring", "security", "transactions", "validation"]

setup(
    name="tidegate",
    version="0.1.0",
    description="A TCP command server for Python teams: plain functions in, a hardened service out",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "server"},
    packages=find_packages("server"),
    package_data={"tidegate": ["py.typed", "scaffold/*", "scaffold/**/*"]},
    install_requires=[
        *("gevent>=26.9", "pluggy>=1.6", "msgspec>=0.21", "cerberus>=1.3.7"),
        *("click>=8.2", "rich>=14", "prompt_toolkit>=3.0.50"),
    ],
    extras_require={"all": [f"tidegate-{name}" for name in FIRST_PARTY]}
    | {name: [f"tidegate-{name}"] for name in FIRST_PARTY},
    entry_points={
        "console_scripts": ["tidegate = tidegate.__main__:main"],
        "pytest11": ["tidegate = tidegate.testing"],
    },
)
