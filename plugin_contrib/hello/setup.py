from setuptools import find_packages, setup

setup(
    name="tidegate-hello",
    version="0.1.0",
    description="Greets in many languages, and tells of slow calls: a Tidegate plugin to copy",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["tidegate_hello*"]),
    install_requires=["tidegate>=0.1.0"],
    extras_require={"test": ["pytest"]},
    entry_points={"tidegate": ["hello = tidegate_hello:Hello"]},
)
