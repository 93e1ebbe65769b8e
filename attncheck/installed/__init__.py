"""What lies installed on this machine, read from files and metadata; imports no library it reports on."""
