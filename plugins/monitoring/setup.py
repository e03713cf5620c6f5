from setuptools import setup

setup(
    name="tidegate-monitoring",
    version="0.1.0",
    description="Performance monitoring for Tidegate: StatsD and Graphite, alerts, reports with advice, tidegate top",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["tidegate_monitoring"],
    package_data={"tidegate_monitoring": ["py.typed"]},
    install_requires=[
        *("tidegate>=0.1", "gevent>=26.9", "msgspec>=0.21", "psutil>=7.2", "statsd>=4.0.1"),
        *("click>=8.2", "rich>=14"),
    ],
    entry_points={
        "tidegate": ["monitoring = tidegate_monitoring:Monitoring"],
        "tidegate.cli": ["top = tidegate_monitoring.cli:top", "report = tidegate_monitoring.cli:report"],
    },
)
