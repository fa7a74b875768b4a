"""python -m kms.kmsd."""

from kms.kmsd.main import main

if __name__ == "__main__":
    main()
