import pytest

from stages.common.errors import InputError
from stages.common.packages import package_path, package_version


def test_a_file_inside_an_installed_package_is_found():
    assert package_path("pytest", "pytest/__init__.py").is_file()


def test_an_absent_file_names_package_file_and_remedy():
    with pytest.raises(InputError, match=r"^package pytest: holds no pytest/absent.txt; install it: pip install"):
        package_path("pytest", "pytest/absent.txt")


@pytest.mark.parametrize("find", [lambda name: package_path(name, "x"), package_version], ids=["path", "version"])
@pytest.mark.parametrize("name", ["no-such-package", ""])
def test_a_package_that_is_not_installed_names_it_and_the_remedy(find, name):
    with pytest.raises(InputError, match=rf"^package {name}: not installed; install it: pip install"):
        find(name)


def test_the_version_is_the_installed_one():
    assert package_version("pytest") == pytest.__version__
