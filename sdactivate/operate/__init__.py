"""What an administrator does with a site that runs: commands in its surroundings, and more."""
