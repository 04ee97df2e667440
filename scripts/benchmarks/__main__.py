"""Call one function of this room and print what it returns, for `process.measured`.

python -m benchmarks MODULE.FUNCTION '{"argument": …}'
"""

import importlib
import json
import sys

from audiocraft.errors import UserError

if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(".")
    try:
        function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
        print(json.dumps(function(**json.loads(sys.argv[2]))))
    except UserError as error:
        sys.exit(f"error: {error}")
