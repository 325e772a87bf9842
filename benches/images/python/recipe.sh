# shellcheck shell=bash disable=SC2034
# A data stack with a web service before it.
packages=(python3-pandas python3-flask) compressor=pgzip
