"""Every compiled loop of the engines, and the microkernels that they call."""
