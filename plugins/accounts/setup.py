from setuptools import setup

setup(
    name="tidegate-accounts",
    version="0.1.0",
    description="Accounts for Tidegate: passwords, sessions, tokens, client certificates, roles",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["tidegate_accounts"],
    package_data={"tidegate_accounts": ["py.typed", "common.txt", "migrations/versions/*.py"]},
    install_requires=[
        *("tidegate>=0.1", "tidegate-transactions>=0.1"),
        *("argon2-cffi>=23.1", "sqlalchemy>=2.0.30", "alembic>=1.14", "msgspec>=0.21", "click>=8.2"),
    ],
    entry_points={
        "tidegate": ["accounts = tidegate_accounts:Accounts"],
        "tidegate.cli": ["account = tidegate_accounts.cli:account"],
    },
)
