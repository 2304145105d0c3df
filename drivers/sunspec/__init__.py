"""SunSpec: devices that say by themselves what they hold, read once and written down as a device type.

Relies on `drivers.modbus` for requests and on `drivers.types` for the type. Deliberately not here: polling.
"""
