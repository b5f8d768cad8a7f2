"""What tools/nova-suite.sh runs; ``__main__`` says what it is for."""
