"""What runs on the machine, outside the containers. Python 3.8, standard library only."""
