from setuptools import setup

setup(
    name="tidegate-validation",
    version="0.1.0",
    description="Input validation and rate limits for Tidegate: schemas, text, named types",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["tidegate_validation"],
    package_data={"tidegate_validation": ["py.typed", "confusables.txt"]},
    install_requires=[
        "tidegate>=0.1",
        "cerberus>=1.3.7",
        "email-validator>=2.2",
        "msgspec>=0.21",
        "regex>=2024.11.6",
    ],
    entry_points={"tidegate": ["validation = tidegate_validation:Validation"]},
)
