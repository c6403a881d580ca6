"""The load generator behind `dynamo-fast bench`."""
