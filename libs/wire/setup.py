from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [Extension("wharf.wire._nghttp2", ["src/wharf/wire/_nghttp2.pyx"], libraries=["nghttp2"])],
        language_level=3,
    )
)
