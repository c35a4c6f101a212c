"""The one exception a user is meant to read."""


class InputError(Exception):
    """Something the user gave is wrong; the message says what, where, and the way out.

    Args:
        where: The file and key, for instance ``params.yaml: joint.train.base.epochs``.
        problem: The value found and why it cannot be used.
        remedy: What is allowed, or what to do instead.
    """

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        self.where, self.problem, self.remedy = where, problem, remedy
        super().__init__(" ".join(f"{where}: {problem}; {remedy}".split()))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        # An error of a seed's own process reaches the command as a pickle, which would pass one argument.
        return InputError, (self.where, self.problem, self.remedy)


class SettingError(Exception):
    """A setting of a cell cannot be used; whoever knows the cell says where the setting stands.

    Args:
        setting: Its name within the cell, such as `privacy.epsilon`.
        problem: What is wrong, with the value.
        remedy: What is allowed, or the way out.
    """

    def __init__(self, setting: str, problem: str, remedy: str) -> None:
        super().__init__(setting, problem, remedy)
        self.setting, self.problem, self.remedy = setting, problem, remedy
