from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [Extension("wharf.brain.engine._lmdb", ["src/wharf/brain/engine/_lmdb.pyx"], libraries=["lmdb"])],
        language_level=3,
    )
)
