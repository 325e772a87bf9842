// Standard input through Go's compress/gzip at its default level, as docker and BuildKit write layers.
package main

import (
	"compress/gzip"
	"io"
	"log"
	"os"
)

func main() {
	out := gzip.NewWriter(os.Stdout)
	if _, err := io.Copy(out, os.Stdin); err != nil {
		log.Fatal(err)
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
}
