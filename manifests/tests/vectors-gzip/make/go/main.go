// gzip streams of Go's own compressor, of klauspost/compress and of klauspost/pgzip: main MIXED DENSE OUT.
package main

import (
	stdgzip "compress/gzip"
	"io"
	"log"
	"os"
	"path/filepath"
	"strconv"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

type maker func(io.Writer) (io.WriteCloser, error)

func std(level int) maker {
	return func(w io.Writer) (io.WriteCloser, error) { return stdgzip.NewWriterLevel(w, level) }
}

func klauspost(level int) maker {
	return func(w io.Writer) (io.WriteCloser, error) { return kgzip.NewWriterLevel(w, level) }
}

func pg(level, block int) maker {
	return func(w io.Writer) (io.WriteCloser, error) {
		out, err := pgzip.NewWriterLevel(w, level)
		if err != nil {
			return nil, err
		}
		return out, out.SetConcurrency(block, 2)
	}
}

func label(level int) string {
	switch level {
	case stdgzip.HuffmanOnly:
		return "huffman"
	case stdgzip.DefaultCompression:
		return "default"
	case kgzip.StatelessCompression:
		return "stateless"
	}
	return strconv.Itoa(level)
}

func main() {
	read := func(path string) []byte {
		content, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		return content
	}
	mixed, dense := read(os.Args[1]), read(os.Args[2])
	// name, maker, content, bytes between flushes (0: none)
	write := func(name string, make maker, content []byte, flush int) {
		file, err := os.Create(filepath.Join(os.Args[3], name+".gz"))
		if err != nil {
			log.Fatal(err)
		}
		defer file.Close()
		out, err := make(file)
		if err != nil {
			log.Fatal(err)
		}
		step := flush
		if step == 0 {
			step = len(content)
		}
		for at := 0; at < len(content); at += step {
			end := min(at+step, len(content))
			if _, err := out.Write(content[at:end]); err != nil {
				log.Fatal(err)
			}
			if flush > 0 {
				if err := out.(interface{ Flush() error }).Flush(); err != nil {
					log.Fatal(err)
				}
			}
		}
		if err := out.Close(); err != nil {
			log.Fatal(err)
		}
	}
	for _, level := range []int{stdgzip.HuffmanOnly, stdgzip.DefaultCompression, 1, 9} {
		write("go-"+label(level), std(level), mixed, 0)
	}
	write("go-dense", std(stdgzip.DefaultCompression), dense, 0)
	write("go-flush", std(stdgzip.DefaultCompression), mixed, 8192)
	for _, level := range []int{kgzip.StatelessCompression, kgzip.HuffmanOnly, 1, 3, 5, 6, 7, 9} {
		write("klauspost-"+label(level), klauspost(level), mixed, 0)
	}
	write("klauspost-dense", klauspost(6), dense, 0)
	for _, level := range []int{pgzip.HuffmanOnly, 1, 6, 9} {
		write("pgzip-"+label(level), pg(level, 20000), mixed, 0)
	}
	write("pgzip-dense", pg(6, 20000), dense, 0)
	// What podman writes: the default level and blocks of 1 MiB, here of bytes that repeat.
	var large []byte
	for len(large) < 5<<19 {
		large = append(large, mixed[:900]...)
	}
	write("pgzip-1MiB-blocks", pg(pgzip.DefaultCompression, 1<<20), large, 0)
}
