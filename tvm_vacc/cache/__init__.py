"""What earlier compiles have made, found by what it was made of."""
