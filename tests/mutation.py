"""A defect put in on purpose: a *.mutation file says which law it breaks, in which file, what text to replace by what,
and which test has to fail."""


class Mutation:
    def __init__(self, path):
        head, old_new = path.read_text().split("--- replace\n", 1)
        self.name = path.stem
        fields = dict(line.split(": ", 1) for line in head.splitlines())
        self.law, self.file, self.test = fields["law"], fields["file"], fields["test"]
        old, new = old_new.split("--- by\n", 1)
        self.old, self.new = old.removesuffix("\n"), new.removesuffix("\n")

    def mutate(self, text):
        if text.count(self.old) != 1:
            raise ValueError(f"its text occurs {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)
