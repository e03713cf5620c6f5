from setuptools import setup

setup(
    name="tidegate-errors",
    version="0.1.0",
    description="What a Tidegate server does about errors: retry, circuit breakers, load shedding, fallbacks, accounts",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["tidegate_errors"],
    package_data={"tidegate_errors": ["py.typed"]},
    install_requires=["tidegate>=0.1", "gevent>=26.9", "msgspec>=0.21"],
    entry_points={"tidegate": ["errors = tidegate_errors:Errors"]},
)
