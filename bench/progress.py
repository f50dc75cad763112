"""What is being done, how far that is, and how long the rest takes: one line on standard error, rewritten in place on a
terminal."""
import sys
import time


def duration(seconds):
    seconds = max(0, round(seconds))
    return f'{seconds} s' if seconds < 100 else f'{seconds // 60} min {seconds % 60:02d} s'


class Progress:
    """Steps are named by a key; one that has been done before tells how long it takes, another is guessed by what
    others have taken against their guesses."""

    def __init__(self, plan, out=sys.stderr):
        """plan: (key, text, seconds as guessed) of each step, in order."""
        self.plan, self.out, self.done = plan, out, 0
        self.took, self.guessed = {}, {key: guess for key, _, guess in plan}
        self.terminal = out.isatty()
        self.began = self.step_began = time.monotonic()

    def pace(self):
        known = [(self.took[k], self.guessed[k]) for k in self.took]
        return sum(t for t, _ in known) / max(1e-9, sum(g for _, g in known)) if known else 1.0

    def expected(self, key):
        return self.took.get(key, self.guessed[key] * self.pace())

    def left(self):
        return sum(self.expected(key) for key, _, _ in self.plan[self.done :])

    def elapsed(self):
        return time.monotonic() - self.began

    def begin(self):
        """The next step, and says so."""
        _, text, _ = self.plan[self.done]
        left = self.left()
        share = self.elapsed() / max(1e-9, self.elapsed() + left)
        line = f'[{100 * share:3.0f} %] {text}; about {duration(left)} left'
        self.out.write(f'\r\033[K{line}' if self.terminal else line + '\n')
        self.out.flush()
        self.step_began = time.monotonic()

    def end(self):
        key = self.plan[self.done][0]
        self.took[key] = time.monotonic() - self.step_began
        self.done += 1

    def close(self):
        if self.terminal:
            self.out.write('\r\033[K')
            self.out.flush()
