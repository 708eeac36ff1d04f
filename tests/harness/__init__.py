"""Starts and stops the real programs that tests stand on: stores, control planes, a node. Everything ends by pid."""
