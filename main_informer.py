"""Train and test Informer with the Lipschitz Regularizer: one setting, --itr seeds."""

import dataclasses
import sys

from exp.flags import parse
from exp.interrupt import Interrupted, signals_noted
from exp.run import dry_run, run_all
from exp.sweep import spread
from exp.training import RunFailed
from utils.errors import UserError


def main(words: list[str]) -> int:
    """Run one command line and return the exit code.

    Args:
        words: the command line without the program's name.

    Returns:
        0 when all is done, 1 when a run failed, 2 after a mistake in flags or data, 130 or 143
        after SIGINT or SIGTERM.
    """
    try:
        config, options = parse(words)
        if options.dry_run:
            dry_run(config, options)
            return 0
        if options.use_multi_gpu:
            if code := spread(words, config, options):
                return code
            options = dataclasses.replace(options, force=False)  # all done: only the mean is left
        with signals_noted() as stop:
            run_all(config, options, stop)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"stopped by {error}; the same command continues", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
