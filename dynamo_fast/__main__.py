"""`python -m dynamo_fast` is `dynamo-fast`, for where scripts are not on the path."""

from dynamo_fast.cli.main import main

if __name__ == "__main__":
    main(prog_name="dynamo-fast")
