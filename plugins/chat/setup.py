from setuptools import setup

setup(
    name="tidegate-chat",
    version="0.1.0",
    description="A chat for Tidegate: rooms, invitations, messages, search, and a client for the terminal",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["tidegate_chat", "tidegate_chat.terminal"],
    package_data={"tidegate_chat": ["py.typed", "migrations/versions/*.py"]},
    install_requires=[
        *("tidegate>=0.1", "tidegate-accounts>=0.1", "tidegate-transactions>=0.1"),
        *("sqlalchemy>=2.0.30", "alembic>=1.14", "msgspec>=0.21", "gevent>=26.9"),
        *("click>=8.2", "prompt_toolkit>=3.0.50"),
    ],
    entry_points={
        "tidegate": ["chat = tidegate_chat:Chat"],
        "tidegate.cli": ["chat = tidegate_chat.cli:chat"],
    },
)
