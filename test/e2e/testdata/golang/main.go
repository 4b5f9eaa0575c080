package main

import "fmt"

// main says where it is.
func main() { fmt.Println("hello from the second stage") }
