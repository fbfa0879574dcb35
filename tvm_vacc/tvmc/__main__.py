"""`python -m tvm_vacc.tvmc`."""

import sys

from tvm_vacc.tvmc.main import main

if __name__ == "__main__":
    sys.exit(main())
