from setuptools import setup

setup(
    name="tidegate-admin",
    version="0.1.0",
    description="The admin site of a Tidegate server: an HTTP API of its administrators' commands, and a dashboard",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["tidegate_admin"],
    package_data={"tidegate_admin": ["py.typed", "static/*"]},
    install_requires=["tidegate>=0.1", "gevent>=26.9", "msgspec>=0.21"],
    entry_points={"tidegate": ["admin = tidegate_admin:Admin"]},
)
