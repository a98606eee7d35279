"""Train and test a forecaster with the Lipschitz Regularizer: one setting, --itr seeds."""

import re
import sys

import utils  # noqa: F401 - before torch is imported

# isort: split
from exp.config import parse
from exp.record import RunFailed
from exp.run import run_all
from utils.files import UserError
from utils.interrupt import Interrupted, signals_noted
from utils.output import run_command


def main(argv: list[str]) -> int:
    """Run one command line, without the program's name, and return the exit code.

    0: all is done; 1: a run failed; 2: a mistake in flags or data; 130, 143: SIGINT, SIGTERM.
    """
    try:
        config, options = parse(argv)
        with signals_noted() as stop:
            run_all(config, options, stop)
        return 0
    except UserError as error:
        code, message = 2, f"error: {error}"
    except RunFailed as error:
        code, message = 1, f"failed: {error}"
    except RuntimeError as error:  # of torch, or of cuBLAS and cuDNN through it
        if not re.search("out of memory|ALLOC_FAILED", str(error)):
            raise
        code, message = 1, "failed: the GPU's memory is full; lower --batch_size, or --amp bf16"
    except Interrupted as error:
        code, message = error.exit_code, f"stopped by {error}; the same command continues"
    except KeyboardInterrupt:  # where signals are not yet, or no longer, noted
        code, message = 130, "stopped by SIGINT; nothing was under way"
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
