"""Tests of the wheel, where operators meet it: in site-packages, beside Nova or without one."""
