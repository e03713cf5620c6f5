from setuptools import find_packages, setup

setup(
    name="tidegate-transactions",
    version="0.1.0",
    description="Database transactions for Tidegate: SQLite with group commit, PostgreSQL by one URL",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["tidegate_transactions*"]),
    package_data={"tidegate_transactions": ["py.typed", "migrations/*.py", "migrations/versions/*.py"]},
    install_requires=[
        "tidegate>=0.1",
        "sqlalchemy>=2.0.30",
        "alembic>=1.14",
        "gevent>=26.9",
        "msgspec>=0.21",
        "click>=8.2",
    ],
    extras_require={"postgres": ["psycopg[binary]>=3.2.2"]},
    entry_points={
        "tidegate": ["transactions = tidegate_transactions:Transactions"],
        "tidegate.cli": ["db = tidegate_transactions.cli:db"],
    },
)
