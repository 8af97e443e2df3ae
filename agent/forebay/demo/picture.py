def draw_anomalies(database,turbine,path): pass
def save_masked(database,path): pass
