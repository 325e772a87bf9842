# shellcheck shell=bash disable=SC2034
packages=(openjdk-17-jre-headless) compressor=pgzip
