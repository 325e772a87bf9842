# shellcheck shell=bash disable=SC2034
packages=(openjdk-21-jre-headless) compressor=pgzip
