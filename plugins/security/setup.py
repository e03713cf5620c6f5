from setuptools import setup

setup(
    name="tidegate-security",
    version="0.1.0",
    description="Security for Tidegate: threats, blocks in proportion, an audit trail that can't be forged",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["tidegate_security"],
    package_data={"tidegate_security": ["py.typed", "rules/*.toml"]},
    install_requires=["tidegate>=0.1", "click>=8.2", "gevent>=26.9", "hyperscan>=0.9.1"],
    entry_points={
        "tidegate": ["security = tidegate_security:Security"],
        "tidegate.cli": ["security = tidegate_security.cli:security"],
    },
)
